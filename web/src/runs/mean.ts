const WEIGHT_OF_NEW = 0.15;

/** Exponential mean without the pull of its start. */
export function smooth(values: (number | null)[]): (number | null)[] {
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum += WEIGHT_OF_NEW * (value - sum);
    weight += WEIGHT_OF_NEW * (1 - weight);
    return sum / weight;
  });
}
