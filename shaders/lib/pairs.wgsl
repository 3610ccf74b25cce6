// Two consecutive vec4 of a row.
struct Pair { low: PairOf, high: PairOf }
