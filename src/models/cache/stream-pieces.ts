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
