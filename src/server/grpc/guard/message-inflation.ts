import { createGunzip, createInflate } from 'node:zlib';
import { GRPC_STATUS } from '../../../open-inference/error-statuses.js';
import type { Admission } from '../../inference/admission.js';
import { serviceErrorOf } from '../calls.js';

const INFLATERS: Readonly<Record<string, typeof createGunzip>> = { gzip: createGunzip, deflate: createInflate };

/** Inflates the messages of one call, and counts what they take until they are handed over. */
export class MessageInflation {
  readonly #admission: Admission;
  readonly #maxBytes: number;
  /** Bytes of the messages that are not handed over, in their order; 0 for one that was not compressed. */
  readonly #taken: { bytes: number }[] = [];
  #isOver = false;

  /** @param maxBytes of one message. */
  constructor(admission: Admission, maxBytes: number) {
    this.#admission = admission;
    this.#maxBytes = maxBytes;
  }

  /**
   * Returns the contents of the next message.
   *
   * @param encoding `identity` for one that is not compressed.
   * @throws by rejection a status: grpc-js ends the call with it.
   */
  read(contents: Buffer, encoding: string): Buffer | Promise<Buffer> {
    const taken = { bytes: 0 };
    this.#taken.push(taken);
    if (encoding === 'identity') return contents;
    const create = INFLATERS[encoding];
    if (create === undefined) return Promise.reject(unknown(encoding));
    return new Promise((resolve, reject) => {
      const inflater = create();
      const parts: Buffer[] = [];
      const fail = (status: object) => {
        inflater.destroy();
        reject(status);
      };
      inflater.on('error', () => fail(damaged(encoding)));
      inflater.on('data', (part: Buffer) => {
        if (this.#isOver) fail(damaged(encoding));
        else if (taken.bytes + part.byteLength > this.#maxBytes) fail(tooLarge(this.#maxBytes));
        else {
          try {
            this.#admission.take(part.byteLength);
            taken.bytes += part.byteLength;
            parts.push(part);
          } catch (cause) {
            fail(serviceErrorOf(cause));
          }
        }
      });
      inflater.on('end', () => resolve(Buffer.concat(parts)));
      inflater.end(contents);
    });
  }

  /** The oldest message is its handler's from now on, which counts it. @returns its bytes if it was compressed. */
  handedOver(): number {
    const bytes = this.#taken.shift()?.bytes ?? 0;
    this.#admission.give(bytes);
    return bytes;
  }

  /** The call is over: nothing of it is kept. */
  end(): void {
    this.#isOver = true;
    for (const { bytes } of this.#taken.splice(0)) this.#admission.give(bytes);
  }
}

function unknown(encoding: string): object {
  // The name may be of any length, and of any characters.
  const details = `messages are inflated from gzip and deflate, not from ${JSON.stringify(encoding.slice(0, 20))}`;
  return { code: GRPC_STATUS.UNIMPLEMENTED, details };
}

function damaged(encoding: string): object {
  return { code: GRPC_STATUS.INVALID_ARGUMENT, details: `the message cannot be inflated from ${encoding}` };
}

function tooLarge(most: number): object {
  const details = `the message has more than ${most} bytes when it is inflated (limits.bodyBytes)`;
  return { code: GRPC_STATUS.RESOURCE_EXHAUSTED, details };
}
