import { ARRAY_TYPES, type TensorType } from './tensor.js';

/**
 * Reads the class of a typed array from the array itself. Unlike `instanceof` this holds for an array of another realm
 * (a vm context, a test runner, a browser window), for a subclass, and whatever its prototype claims.
 */
const classOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)
  ?.get as (this: unknown) => string | undefined;

/** Types that the class of an array tells. Others share their class, so that a caller must name them. */
const INFERRED = new Map<string, TensorType>([
  ...(['float32', 'float64', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64'] as const).map(
    (type) => [ARRAY_TYPES[type].name, type] as const,
  ),
  ['Uint8ClampedArray', 'uint8'],
  ['Float16Array', 'float16'],
]);

/** Classes with the same bytes as the class that carries a type. */
const ALSO_FITTING: Readonly<Record<string, readonly string[]>> = {
  uint8: ['Uint8ClampedArray'],
  bool: ['Uint8ClampedArray'],
  float16: ['Float16Array'],
};

/** The name of a typed array's class, for example `Float32Array`; undefined for everything else. */
export function typedArrayClass(value: unknown): string | undefined {
  return classOf.call(value);
}

/** The type that the class of an array tells; undefined when it tells none. */
export function inferredType(arrayClass: string): TensorType | undefined {
  return INFERRED.get(arrayClass);
}

/** Whether an array of this class holds elements of the type. */
export function isFitting(type: TensorType, arrayClass: string): boolean {
  return ARRAY_TYPES[type].name === arrayClass || ALSO_FITTING[type]?.includes(arrayClass) === true;
}
