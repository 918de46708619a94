/** IEEE 754 binary16: 1 bit of sign, 5 of exponent, 10 of fraction. */
const SIGN = 0x8000;
const INFINITE = 0x7c00;
const NOT_A_NUMBER = 0x7e00;
const FRACTION_BITS = 10;
/** Exponents of the smallest and the largest normal number. */
const LOWEST_EXPONENT = -14;
const HIGHEST_EXPONENT = 15;

/** Returns the number that the bits stand for. */
export function fromFloat16(bits: number): number {
  const sign = (bits & SIGN) === 0 ? 1 : -1;
  const exponent = (bits >> FRACTION_BITS) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1_024) * 2 ** (exponent - 15);
}

/** Whether the bits stand for infinity or minus infinity. */
export function isInfiniteFloat16(bits: number): boolean {
  return (bits & ~SIGN) === INFINITE;
}

/** Returns the bits of the nearest float16, of two equally near the even one; infinity when the number is too large. */
export function toFloat16(value: number): number {
  if (Number.isNaN(value)) return NOT_A_NUMBER;
  const sign = value < 0 || Object.is(value, -0) ? SIGN : 0;
  const magnitude = Math.abs(value);
  if (magnitude === Number.POSITIVE_INFINITY) return sign | INFINITE;
  const exponent = Math.max(LOWEST_EXPONENT, exponentOf(magnitude));
  const units = roundToEven(magnitude * 2 ** (FRACTION_BITS - exponent));
  // A subnormal number has no leading 1; one that rounds up to the next power of two carries into the exponent.
  const bits = units + (exponent - LOWEST_EXPONENT) * 2 ** FRACTION_BITS;
  return sign | (exponent > HIGHEST_EXPONENT ? INFINITE : Math.min(bits, INFINITE));
}

const scratch = new DataView(new ArrayBuffer(Float64Array.BYTES_PER_ELEMENT));

/** The exponent of a float64, read from its bits, because a logarithm is not exact. */
function exponentOf(magnitude: number): number {
  scratch.setFloat64(0, magnitude);
  return (scratch.getUint16(0) >> 4) - 1_023;
}

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
