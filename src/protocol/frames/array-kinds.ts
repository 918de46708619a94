/** The views that a message may hold. Their order is part of the frames' format: both ends are of one version. */
const KINDS = [
  'Uint8Array',
  'Int8Array',
  'Uint8ClampedArray',
  'Uint16Array',
  'Int16Array',
  'Uint32Array',
  'Int32Array',
  'Float32Array',
  'Float64Array',
  'BigInt64Array',
  'BigUint64Array',
  'DataView',
  'Float16Array',
] as const;

/** The kind of {@link SharedBytes}. */
export const SHARED = KINDS.length;

/** Stands in a message for memory that the threads of the other process share: that is what arrives. */
export class SharedBytes extends Uint8Array<SharedArrayBuffer> {}

type View = ArrayBufferView<ArrayBuffer>;
type ViewClass = new (buffer: ArrayBuffer) => View;

/** Undefined where this Node does not have the class. */
const CLASSES: readonly (ViewClass | undefined)[] = KINDS.map((name) => Reflect.get(globalThis, name));

/** Returns the number of the view's class. A Buffer counts as the Uint8Array that it is. */
export function kindOf(view: ArrayBufferView): number {
  if (view instanceof SharedBytes) return SHARED;
  const name = Object.prototype.toString.call(view).slice('[object '.length, -1);
  const kind = (KINDS as readonly string[]).indexOf(name);
  if (kind === -1) throw new TypeError(`a ${name} cannot be sent to another process`);
  return kind;
}

/** Returns a view of the whole buffer. */
export function viewOf(kind: number, buffer: ArrayBuffer): View {
  const Class = CLASSES[kind];
  if (Class === undefined) throw new TypeError(`there is no view of kind ${kind}`);
  return new Class(buffer);
}
