"""Every format of data, in one list; installed packages add theirs through the entry points ``memfast.formats``."""

from memfast.data.archives import Archives
from memfast.data.arrays import Arrays
from memfast.data.format import Format
from memfast.data.image_files import ImageFiles
from memfast.data.kept import KeptIndexes
from memfast.data.saved_datasets import SavedDatasets
from memfast.data.tables import Tables
from memfast.data.text_tables import TextTables
from memfast.foundation.registry import Registry

FORMATS: Registry[Format] = Registry(
    "format",
    [KeptIndexes(), SavedDatasets(), Tables(), Arrays(), Archives(), TextTables(), ImageFiles()],
    group="memfast.formats",
)
