import { InfermuxError, messageOf, show } from '../../common/errors.js';

/** The next piece; undefined at the end. @throws InfermuxError `MODEL_LOAD_FAILED` with what the stream throws. */
export async function nextPiece(pieces: AsyncIterator<Uint8Array>, name: string): Promise<Uint8Array | undefined> {
  try {
    const { done, value } = await pieces.next();
    if (done === true) return undefined;
    if (!ArrayBuffer.isView(value)) throw new Error(`it gave ${show(value)} instead of bytes`);
    return value;
  } catch (cause) {
    if (cause instanceof InfermuxError) throw cause;
    const message = `the stream of model ${show(name)} failed: ${messageOf(cause)}`;
    throw new InfermuxError('MODEL_LOAD_FAILED', message, { cause, retryable: true });
  }
}

/**
 * Reads a stream. `return` ends it at once: an iterator of its own would first wait for the piece that it is asked for.
 *
 * @param stream a web stream, a `Readable` or another async iterable.
 */
export function iteratorOf(stream: AsyncIterable<Uint8Array>): AsyncIterator<Uint8Array, undefined> {
  const { getReader, destroy } = stream as Partial<ReadableStream<Uint8Array>> & { readonly destroy?: unknown };
  const over = { done: true, value: undefined } as const;
  if (typeof getReader === 'function') {
    const reader = (stream as unknown as ReadableStream<Uint8Array>).getReader();
    const next = async () => (await reader.read()) as IteratorResult<Uint8Array, undefined>;
    return { next, return: async () => reader.cancel().then(() => over) };
  }
  const iterator = stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>;
  const end = async () => {
    if (typeof destroy === 'function') destroy.call(stream);
    else await iterator.return?.();
    return over;
  };
  return { next: () => iterator.next(), return: end };
}
