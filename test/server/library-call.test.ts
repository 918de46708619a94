import { describe, expect, it } from 'vitest';
import { bytesOfLastMessage, forget, isMidMessage, joinSmallParts } from '../../dist/server/grpc/guard/library-call.js';

const callOf = (parts: object) => parts as Parameters<typeof isMidMessage>[0];

describe('a call of grpc-js', () => {
  it('that does not tell what it holds counts as one that waits for nothing', () => {
    const call = callOf({});
    expect([isMidMessage(call), bytesOfLastMessage(call)]).toEqual([false, 0]);
    joinSmallParts(call);
    forget(call);
  });

  it('has many small parts of a message joined, and large ones left as they are', () => {
    const decoderOf = (bytes: number) => ({
      ...{ readState: 2, readMessageSize: 1_000_000, readMessageRemaining: 1_000_000 - 20 * bytes },
      readPartialMessage: Array.from({ length: 20 }, (_, index) => Buffer.alloc(bytes, index)),
    });
    const [small, large] = [decoderOf(10), decoderOf(16_384)];
    for (const decoder of [small, large]) joinSmallParts(callOf({ decoder }));
    expect(small.readPartialMessage).toHaveLength(1);
    expect(small.readPartialMessage[0]?.subarray(190)).toEqual(Buffer.alloc(10, 19));
    expect(large.readPartialMessage).toHaveLength(20);
    expect([isMidMessage(callOf({ decoder: small })), bytesOfLastMessage(callOf({ decoder: small }))]).toEqual([
      true,
      200,
    ]);
  });
});
