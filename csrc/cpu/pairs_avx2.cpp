#include "cpu/pairs.h"
#include "cpu/pairs_inc.h"

namespace memfast {

const ByteDistance kByteDistanceAvx2 = byte_distance;

}  // namespace memfast
