import { Serializer } from 'node:v8';
import { kindOf, SHARED, type SharedBytes } from './array-kinds.js';
import {
  APART,
  APART_BYTES,
  APART_FROM_BYTES,
  COUNT_BYTES,
  type Counts,
  HEADER,
  HEADER_BYTES,
  MOST_BYTES,
} from './frame-format.js';

const NO_HEADER = Buffer.alloc(HEADER_BYTES);

/**
 * Returns the pieces of one frame, in their order. Large arrays are among them as they are: leave them alone until they
 * are written.
 *
 * @throws Error for a value that structured clone cannot carry, or that only threads can share, such as a port.
 */
export function writeFrame(message: unknown, counts: Counts): Uint8Array[] {
  const serializer = new FrameSerializer();
  // The header is filled in at last.
  serializer.writeRawBytes(NO_HEADER);
  serializer.writeHeader();
  // False or nothing for what V8 can only hand from thread to thread, such as a WebAssembly module.
  if (serializer.writeValue(message) !== true) throw new TypeError('a value in it could not be cloned');
  const written = serializer.releaseBuffer();
  const { aparts } = serializer;
  let bytes = written.length + aparts.length * APART_BYTES;
  for (const { length } of aparts) bytes += length;
  if (bytes > MOST_BYTES) throw new RangeError(`a message of ${bytes} bytes cannot be sent to another process`);
  const messageBytes = written.length - HEADER_BYTES;
  if (aparts.length === 0) {
    fillHeader(written, messageBytes, 0, counts);
    return [written];
  }
  const head = Buffer.alloc(HEADER_BYTES + aparts.length * APART_BYTES);
  fillHeader(head, messageBytes, aparts.length, counts);
  let at = HEADER_BYTES;
  for (const apart of aparts) {
    head.writeUInt32LE(apart.length, at + APART.bytes);
    head.writeUInt32LE(Number(kindOf(apart) === SHARED), at + APART.isShared);
    at += APART_BYTES;
  }
  return [head, written.subarray(HEADER_BYTES), ...aparts];
}

/** Returns a frame that only tells the counts. */
export function writeCounts(counts: Counts): Uint8Array[] {
  const frame = Buffer.alloc(HEADER_BYTES);
  fillHeader(frame, 0, 0, counts);
  return [frame];
}

function fillHeader(frame: Buffer, messageBytes: number, aparts: number, counts: Counts): void {
  frame.writeUInt32LE(messageBytes, HEADER.bytes);
  frame.writeUInt32LE(aparts, HEADER.aparts);
  for (let index = 0; index < counts.length; index += 1) {
    frame.writeDoubleLE(counts[index] as number, HEADER.counts + index * COUNT_BYTES);
  }
}

interface ViewSettings {
  _setTreatArrayBufferViewsAsHostObjects(areHostObjects: boolean): void;
}

/** Writes small views into the message, without the memory beside them, and keeps the larger ones apart. */
class FrameSerializer extends Serializer {
  readonly aparts: Uint8Array[] = [];

  constructor() {
    super();
    // V8 would write the whole buffer of a view. The method is documented, and missing from the types.
    (this as unknown as ViewSettings)._setTreatArrayBufferViewsAsHostObjects(true);
  }

  /** V8 calls it for each view. */
  _writeHostObject(view: ArrayBufferView): void {
    const kind = kindOf(view);
    const isApart = view.byteLength >= APART_FROM_BYTES;
    this.writeUint32(kind * 2 + Number(isApart));
    const bytes =
      kind === SHARED ? (view as SharedBytes) : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (isApart) {
      this.aparts.push(bytes);
    } else {
      this.writeUint32(bytes.length);
      this.writeRawBytes(bytes);
    }
  }

  /** V8 calls it for memory that threads share, outside a view. */
  _getSharedArrayBufferId(): never {
    throw new TypeError('a SharedArrayBuffer could not be cloned: another process cannot share it');
  }

  /** V8 calls it to make the error of a value that cannot be cloned. */
  _getDataCloneError(message: string): Error {
    return new TypeError(message);
  }
}
