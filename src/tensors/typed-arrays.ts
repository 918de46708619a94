import { ARRAY_TYPES, arrayTypeOf, type TensorData, type TensorInput, type TensorType } from './tensor.js';

type AnyTypedArray = Exclude<TensorInput['data'], readonly unknown[]>;

/**
 * Reads the class of a typed array from the array itself. Unlike `instanceof` this holds for an array of another realm
 * (a vm context, a test runner, a browser window), for a subclass, and whatever its prototype claims.
 */
const classOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)
  ?.get as (this: unknown) => string | undefined;

/** Types that the class of an array tells. `bool` and bits of `float16` share their class, so that a caller names them. */
const INFERRED: Readonly<Record<string, TensorType>> = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  Float16Array: 'float16',
  Int8Array: 'int8',
  Uint8Array: 'uint8',
  Uint8ClampedArray: 'uint8',
  Int16Array: 'int16',
  Uint16Array: 'uint16',
  Int32Array: 'int32',
  Uint32Array: 'uint32',
  BigInt64Array: 'int64',
  BigUint64Array: 'uint64',
};

/** Classes with the same bytes as another, which carries their elements. */
const CARRIED_AS: Readonly<Record<string, string>> = {
  Float16Array: 'Uint16Array',
  Uint8ClampedArray: 'Uint8Array',
};

/** The name of a typed array's class, for example `Float32Array`; undefined for everything else. */
export function typedArrayClass(value: unknown): string | undefined {
  return classOf.call(value);
}

/** The type that the class of an array tells; undefined when it tells none. */
export function inferredType(arrayClass: string): TensorType | undefined {
  return INFERRED[arrayClass];
}

/** Whether an array of this class holds elements of the type. */
export function isFitting(type: TensorType, arrayClass: string): boolean {
  return ARRAY_TYPES[type].name === (CARRIED_AS[arrayClass] ?? arrayClass);
}

/** Returns the array, or a view of its elements of the class that carries them. */
export function asCarried(type: Exclude<TensorType, 'string'>, arrayClass: string, given: AnyTypedArray): TensorData {
  if (CARRIED_AS[arrayClass] === undefined) return given as TensorData;
  return new (arrayTypeOf(type) as Uint16ArrayConstructor)(given.buffer, given.byteOffset, given.length);
}
