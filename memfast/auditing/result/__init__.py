"""What an audit returns: figures, the table of pairs, pictures; their files; and the statement."""

from memfast.auditing.result.audit_result import AuditResult
from memfast.auditing.result.files import FILES, METRICS_FILE, REPORT_FILE
from memfast.auditing.result.pairs import PairTable, make_pairs
from memfast.auditing.result.pictures import take_pictures
from memfast.auditing.result.projection import project
from memfast.auditing.result.statement import unread_sentences, with_statement

__all__ = [
    "FILES",
    "METRICS_FILE",
    "REPORT_FILE",
    "AuditResult",
    "PairTable",
    "make_pairs",
    "project",
    "take_pictures",
    "unread_sentences",
    "with_statement",
]
