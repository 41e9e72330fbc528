#include "cpu/pairs.h"
#include "cpu/pairs_inc.h"

namespace memfast {

const ByteDistance kByteDistanceAvx512 = byte_distance;

}  // namespace memfast
