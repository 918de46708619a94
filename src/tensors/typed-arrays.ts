import { ARRAY_TYPES, arrayTypeOf, type TensorData, type TensorInput, type TensorType } from './tensor.js';

type AnyTypedArray = Exclude<TensorInput['data'], readonly unknown[]>;

const { prototype } = Object.getPrototypeOf(Uint8Array) as { prototype: object };

/**
 * These read class and length of a typed array from the array itself. Unlike `instanceof` and a property this holds for
 * an array of another realm (a vm context, a test runner, a browser window), for a subclass, and whatever its properties
 * claim.
 */
const classOf = Object.getOwnPropertyDescriptor(prototype, Symbol.toStringTag)?.get as (
  this: unknown,
) => string | undefined;
const ownLength = Object.getOwnPropertyDescriptor(prototype, 'length')?.get as (this: unknown) => number;

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

/** Number of elements, whatever a property `length` of the array itself or of its class says. */
export function lengthOf(data: TensorData): number {
  return ArrayBuffer.isView(data) ? ownLength.call(data) : data.length;
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
  return new (arrayTypeOf(type) as Uint16ArrayConstructor)(
    given.buffer,
    given.byteOffset,
    lengthOf(given as TensorData),
  );
}
