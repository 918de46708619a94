import type { ServerInterceptingCallInterface } from '@grpc/grpc-js';

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
  };
  decompressMessage?(message: Buffer, encoding: string): Buffer | Promise<Buffer>;
}

/** Inflates a message. Rejects with a status. */
export type Inflate = (message: Buffer, encoding: string) => Promise<Buffer>;

/** A flag and the length, before each message. */
const PREFIX_BYTES = 5;

/** Whether a message has begun and not ended. */
export function isMidMessage(call: ServerInterceptingCallInterface): boolean {
  return (call as LibraryCall).decoder?.readState !== 0;
}

/** Bytes that are here of the last message that has begun. */
export function bytesOfLastMessage(call: ServerInterceptingCallInterface): number {
  const { decoder } = call as LibraryCall;
  return decoder === undefined ? 0 : decoder.readMessageSize - decoder.readMessageRemaining;
}

/** Whether messages of the call may be compressed. */
export function isCompressed(call: ServerInterceptingCallInterface): boolean {
  return (call as LibraryCall).incomingEncoding !== 'identity';
}

/** Has the compressed messages of a call inflated by this function. Call it before the call starts. */
export function inflateBy(call: ServerInterceptingCallInterface, inflate: Inflate): void {
  (call as LibraryCall).decompressMessage = (message, encoding) => {
    const contents = message.subarray(PREFIX_BYTES);
    // The flag of a message may say that it is not compressed.
    return encoding === 'identity' ? contents : inflate(contents, encoding);
  };
}
