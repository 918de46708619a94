import { types } from 'node:util';
import { Deserializer } from 'node:v8';
import { SHARED, viewOf } from './array-kinds.js';
import type { Frame } from './frame-format.js';

/**
 * Returns the message of the frame, undefined when it has none. The large views in it are those of the frame.
 *
 * @throws Error when the bytes are no message.
 */
export function readMessage({ message, aparts }: Frame): unknown {
  if (message === undefined) return undefined;
  const deserializer = new FrameDeserializer(message, aparts);
  deserializer.readHeader();
  return deserializer.readValue();
}

/** Gives each view memory of its own. */
class FrameDeserializer extends Deserializer {
  readonly #aparts: readonly Uint8Array[];
  #apartsRead = 0;

  constructor(message: Uint8Array, aparts: readonly Uint8Array[]) {
    super(message);
    this.#aparts = aparts;
  }

  /** V8 calls it for each view. */
  _readHostObject(): object {
    const tag = this.readUint32();
    const kind = tag >>> 1;
    const bytes = tag % 2 === 1 ? this.#nextApart() : this.#nextBytes(kind === SHARED);
    if ((kind === SHARED) !== types.isSharedArrayBuffer(bytes.buffer))
      throw new TypeError('the wrong memory is shared');
    return kind === SHARED ? bytes.buffer : viewOf(kind, bytes.buffer as ArrayBuffer);
  }

  #nextApart(): Uint8Array {
    const apart = this.#aparts[this.#apartsRead];
    this.#apartsRead += 1;
    if (apart === undefined) throw new RangeError('a message names more arrays than its frame has');
    return apart;
  }

  #nextBytes(isShared: boolean): Uint8Array {
    const length = this.readUint32();
    const bytes = length > 0 ? this.readRawBytes(length) : new Uint8Array();
    const own = new Uint8Array(isShared ? new SharedArrayBuffer(length) : new ArrayBuffer(length));
    own.set(bytes);
    return own;
  }
}
