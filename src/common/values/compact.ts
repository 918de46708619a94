import { inspect, types } from 'node:util';

/**
 * Returns what structured clone should be given instead of the value. Structured clone sends the whole buffer of each
 * typed array, DataView and Buffer; of a view on a part of a larger buffer it sends the memory beside it, too. Here such
 * a view is replaced by one on memory of its own. The clone of the result equals the clone of the value.
 *
 * A view stays on a larger buffer that was given as a whole: the ArrayBuffer itself is in the value, or it is a
 * SharedArrayBuffer. Other views on parts of one buffer come to share no memory, and have the length of the moment.
 *
 * It never throws, and structured clone refuses the result with the same error as the value.
 *
 * @returns the value itself if nothing has to change; otherwise a copy, which shares with the value what is unchanged.
 */
export function compact<T>(value: T): T {
  if (!isObject(value)) return value;
  try {
    const found = new Set<object>();
    const parts: ArrayBufferView[] = [];
    search(value, found, parts);
    const isCompact = parts.every(({ buffer }) => found.has(buffer));
    return isCompact ? value : (new Compaction(found).of(value) as T);
  } catch {
    // The value cannot be read, or is too deep for the stack. Structured clone says so.
    return value;
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Whether the view is on a part of its buffer. */
function isPart({ buffer, byteLength }: ArrayBufferView): boolean {
  return byteLength !== buffer.byteLength && !types.isSharedArrayBuffer(buffer);
}

/**
 * Searches for views on parts of buffers. The recursion is an end to what getters make without end, as it is in
 * structured clone, which needs more of the stack.
 *
 * @param found gets the objects in the value: a buffer is among them if it was given, and not only views on it.
 * @param parts gets the views.
 */
function search(value: object, found: Set<object>, parts: ArrayBufferView[]): void {
  if (ArrayBuffer.isView(value)) {
    if (isPart(value)) parts.push(value);
    return;
  }
  if (found.has(value)) return;
  found.add(value);
  if (isPlain(value)) {
    // Most objects are plain, and a list of the values takes longer than to look at them.
    for (const key in value) {
      const content = value[key];
      if (isObject(content)) search(content, found, parts);
    }
    return;
  }
  const contents = contentsOf(value);
  for (let index = 0; index < contents.length; index += 1) {
    const content = contents[index];
    if (isObject(content)) search(content, found, parts);
  }
}

function isPlain(object: object): object is Readonly<Record<string, unknown>> {
  const prototype = Object.getPrototypeOf(object);
  return prototype === Object.prototype || prototype === null;
}

/** Of a longer array only the elements are read, if it has no others: V8 needs longer to list all than to clone it. */
const LISTED_UP_TO = 64;

/** Returns what structured clone reads in the object: keys and values of a map in turns. */
export function contentsOf(object: object): readonly unknown[] {
  if (isPlain(object)) return Object.values(object);
  if (Array.isArray(object)) return isLong(object) ? object : Object.values(object);
  // Not by their own methods, which a subclass may have replaced.
  if (types.isMap(object)) return [...Map.prototype.entries.call(object)].flat();
  if (types.isSet(object)) return [...Set.prototype.values.call(object)];
  if (types.isNativeError(object)) return Object.hasOwn(object, 'cause') ? [object.cause] : [];
  return Object.values(object);
}

/** Whether the array is long and has elements alone; one with holes may have few elements at any length. */
function isLong(array: readonly unknown[]): boolean {
  if (array.length <= LISTED_UP_TO || hasNamed(array)) return false;
  for (let index = 0; index < array.length; index += 1) {
    if (array[index] === undefined && !Object.hasOwn(array, index)) return false;
  }
  return true;
}

/** Whether an array has own properties beside its elements. Only `inspect` can tell without a list of all keys. */
function hasNamed(array: readonly unknown[]): boolean {
  const text = inspect(array, { maxArrayLength: 0, depth: 0, compact: true, customInspect: false });
  return !/\[ \.\.\. \d+ more items \]$/.test(text);
}

/** Objects whose own properties structured clone does not read, or that it refuses. */
const UNREAD = [
  ...[types.isAnyArrayBuffer, types.isBoxedPrimitive, types.isDate, types.isRegExp],
  ...[types.isArgumentsObject, types.isExternal, types.isGeneratorObject, types.isMapIterator, types.isSetIterator],
  ...[types.isModuleNamespaceObject, types.isPromise, types.isProxy, types.isWeakMap, types.isWeakSet],
];

/** Copies what contains views on parts of buffers. */
class Compaction {
  readonly #given: ReadonlySet<object>;
  readonly #copies = new Map<object, object>();

  /** @param given the buffers that are in the value. */
  constructor(given: ReadonlySet<object>) {
    this.#given = given;
  }

  /** One function, and not several that call each other: it needs less of the stack. */
  of(value: unknown): unknown {
    if (!isObject(value)) return value;
    const known = this.#copies.get(value);
    if (known !== undefined) return known;
    const copy = ArrayBuffer.isView(value) ? this.#ofView(value) : emptyLike(value);
    // Before the contents: a cycle leads to the copy, which is a change, and so keeps the copy.
    this.#copies.set(value, copy);
    if (copy === value || ArrayBuffer.isView(copy)) return copy;
    const contents = contentsOf(value);
    const own: unknown[] = [];
    let isChanged = false;
    for (let index = 0; index < contents.length; index += 1) {
      const content = contents[index];
      const compacted = this.of(content);
      own.push(compacted);
      if (isObject(content) && compacted !== content) isChanged = true;
    }
    if (isChanged) fill(copy, value, own);
    else this.#copies.set(value, value);
    return isChanged ? copy : value;
  }

  #ofView(view: ArrayBufferView): ArrayBufferView {
    return isPart(view) && !this.#given.has(view.buffer) ? onOwnMemory(view) : view;
  }
}

/** Returns what a copy of the object begins as; the object itself if its contents are not read. */
function emptyLike(object: object): object {
  if (UNREAD.some((is) => is(object))) return object;
  if (Array.isArray(object)) return [];
  if (types.isMap(object)) return new Map();
  if (types.isSet(object)) return new Set();
  return types.isNativeError(object) ? new Error() : {};
}

/** Gives the empty copy of an object these contents, in the order of {@link contentsOf}. */
function fill(copy: object, object: object, contents: readonly unknown[]): void {
  if (types.isMap(copy)) {
    for (let index = 0; index < contents.length; index += 2) copy.set(contents[index], contents[index + 1]);
  } else if (types.isSet(copy)) {
    for (const content of contents) copy.add(content);
  } else if (types.isNativeError(copy)) {
    const { name, stack } = object as Error;
    if (Object.hasOwn(object, 'message')) define(copy, 'message', (object as Error).message);
    define(copy, 'name', name);
    define(copy, 'stack', stack);
    define(copy, 'cause', contents[0]);
  } else {
    const keys = Array.isArray(object) && isLong(object) ? undefined : Object.keys(object);
    for (const [index, content] of contents.entries()) define(copy, keys?.[index] ?? index, content);
    if (Array.isArray(object)) (copy as unknown[]).length = object.length;
  }
}

/** An assignment to "__proto__" would define nothing. */
function define(object: object, key: PropertyKey, value: unknown): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

type ViewConstructor = new (memory: ArrayBuffer | number) => ArrayBufferView;
const nameOf = Reflect.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)?.get;

/** Copies the view with a built-in class, as structured clone does: a class of its own may misuse the memory. */
function onOwnMemory(view: ArrayBufferView): ArrayBufferView {
  if (types.isDataView(view)) {
    const { buffer, byteOffset, byteLength } = view;
    return new DataView(new Uint8Array(buffer, byteOffset, byteLength).slice().buffer);
  }
  const name = nameOf?.call(view) as 'Uint8Array';
  const copy = new (globalThis[name] as ViewConstructor)((view as Uint8Array).length) as Uint8Array;
  // Refuses a view that its resizable buffer does not reach any more; structured clone refuses it, too.
  copy.set(view as Uint8Array);
  return copy;
}
