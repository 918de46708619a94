import { constants } from 'node:http2';
import type { Metadata, ServerInterceptingCallInterface } from '@grpc/grpc-js';

/**
 * What a call of grpc-js has beside what it declares: nothing else tells that half of a message is there, and nothing else
 * keeps it from inflating any number of messages at once. The package names the releases that have it, and tests of
 * attacks fail without it.
 */
interface LibraryCall {
  readonly incomingEncoding?: string;
  readonly decoder?: {
    /** 0 between two messages. */
    readonly readState: number;
    /** Of the last message that has begun. */
    readonly readMessageSize: number;
    readonly readMessageRemaining: number;
    /** What is here of a message that is not whole. */
    readPartialMessage: Buffer[];
  };
  readonly stream?: { close(code: number, callback: () => void): void; destroy(): void };
  decompressMessage?(message: Buffer, encoding: string): Buffer | Promise<Buffer>;
}

type Call = ServerInterceptingCallInterface;

/** A flag and the length, before each message. */
const PREFIX_BYTES = 5;
/** A smaller part of a message may keep far more memory, that of the read in which it came. */
const SMALL_PART_BYTES = 4_096;
const MANY_PARTS = 16;
/** Time for an answer to be written. */
const ANSWER_MS = 100;
/** What an entry of metadata takes beside its characters, about. */
const ENTRY_BYTES = 64;

/** Whether a message has begun and not ended. */
export function isMidMessage(call: Call): boolean {
  const { decoder } = call as LibraryCall;
  // A call that does not tell must not count as one that is slow.
  return decoder !== undefined && decoder.readState !== 0;
}

/** Bytes that are here of the last message that has begun. */
export function bytesOfLastMessage(call: Call): number {
  const { decoder } = call as LibraryCall;
  return decoder === undefined ? 0 : decoder.readMessageSize - decoder.readMessageRemaining;
}

/** Puts many small parts of a message into memory of their own. */
export function joinSmallParts(call: Call): void {
  const { decoder } = call as LibraryCall;
  const parts = decoder?.readPartialMessage ?? [];
  if (decoder === undefined || parts.length < MANY_PARTS) return;
  if (bytesOfLastMessage(call) / parts.length < SMALL_PART_BYTES) decoder.readPartialMessage = [Buffer.concat(parts)];
}

/**
 * Forgets a call that was answered before its client has sent all: grpc-js would keep it, with what has come of its
 * message, until the client ends its half. By RFC 9113, section 8.1, such a stream is reset without an error.
 */
export function forget(call: Call): void {
  const { decoder, stream } = call as LibraryCall;
  if (decoder !== undefined) decoder.readPartialMessage = [];
  // A reset overtakes an answer that is not written yet.
  setTimeout(() => stream?.close(constants.NGHTTP2_NO_ERROR, () => stream.destroy()), ANSWER_MS).unref();
}

/** Whether messages of the call may be compressed. */
export function isCompressed(call: Call): boolean {
  return (call as LibraryCall).incomingEncoding !== 'identity';
}

/** Has the messages of a call read by this function. Call it before the call starts. */
export function readMessagesBy(
  call: Call,
  read: (contents: Buffer, encoding: string) => Buffer | Promise<Buffer>,
): void {
  (call as LibraryCall).decompressMessage = (message, encoding) => read(message.subarray(PREFIX_BYTES), encoding);
}

/** Bytes that metadata take in memory, about. */
export function bytesOfMetadata(metadata: Metadata): number {
  let bytes = 0;
  const { internalRepr } = metadata as unknown as { readonly internalRepr?: ReadonlyMap<string, (string | Buffer)[]> };
  for (const [key, values] of internalRepr ?? Object.entries(metadata.toJSON())) {
    for (const value of values) bytes += key.length + value.length + ENTRY_BYTES;
  }
  return bytes;
}
