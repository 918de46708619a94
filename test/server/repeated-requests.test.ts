import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RepeatedRequests } from '../../dist/server/inference/repeated-requests.js';

const bytesOf = (answer: unknown) => (typeof answer === 'number' ? answer : 0);
const isFinal = (cause: unknown) => cause === 'final';

/** Runs something, and counts how often. */
function counted(outcome: () => Promise<unknown>) {
  let runs = 0;
  const run = () => {
    runs += 1;
    return outcome();
  };
  return { run, runs: () => runs };
}

describe('requests that are sent again', () => {
  it('are refused where another request has their key', async () => {
    const repeated = new RepeatedRequests();
    const { run } = counted(async () => 1);
    await repeated.once('k', 'a', run, bytesOf, isFinal);
    expect(() => repeated.once('k', 'b', run, bytesOf, isFinal)).toThrow('was used for another request');
  });

  it('run again after a failure that may pass, and not after one that would come again', async () => {
    for (const [reason, expected] of [
      ['passing', 2],
      ['final', 1],
    ] as const) {
      const repeated = new RepeatedRequests();
      const { run, runs } = counted(() => Promise.reject(reason));
      await expect(repeated.once('k', '', run, bytesOf, isFinal)).rejects.toBe(reason);
      await expect(repeated.once('k', '', run, bytesOf, isFinal)).rejects.toBe(reason);
      expect(runs()).toBe(expected);
    }
  });

  it('run again when a minute has passed since the answer, and only then', async () => {
    let now = 0;
    const repeated = new RepeatedRequests(() => now);
    const { run, runs } = counted(async () => 1);
    await repeated.once('k', '', run, bytesOf, isFinal);
    now = 59_999;
    await repeated.once('k', '', run, bytesOf, isFinal);
    expect(runs()).toBe(1);
    now = 60_000;
    await repeated.once('k', '', run, bytesOf, isFinal);
    expect(runs()).toBe(2);
  });

  it('never run twice at a time, and their answers are kept within the bounds', async () => {
    const keys = fc.constantFrom('a', 'b', 'c');
    const bytes = fc.constantFrom(0, 1, 40 * 2 ** 20);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(keys, bytes, fc.nat(40_000)), { maxLength: 60 }), async (asks) => {
        let now = 0;
        const repeated = new RepeatedRequests(() => now);
        const running = new Set<string>();
        const waits = asks.map(async ([key, size, ms]) => {
          now += ms;
          return repeated.once(
            key,
            '',
            async () => {
              expect(running.has(key)).toBe(false);
              running.add(key);
              await Promise.resolve();
              running.delete(key);
              return size;
            },
            bytesOf,
            isFinal,
          );
        });
        await Promise.all(waits);
        expect(running.size).toBe(0);
      }),
    );
  });

  it('forget the oldest answers where there are too many bytes or too many answers', async () => {
    const repeated = new RepeatedRequests(() => 0);
    const large = counted(async () => 40 * 2 ** 20);
    await repeated.once('first', '', large.run, bytesOf, isFinal);
    await repeated.once('second', '', large.run, bytesOf, isFinal);
    await repeated.once('second', '', large.run, bytesOf, isFinal);
    expect(large.runs()).toBe(2);
    await repeated.once('first', '', large.run, bytesOf, isFinal);
    expect(large.runs()).toBe(3);
    const small = counted(async () => 0);
    for (let index = 0; index <= 4_096; index += 1) await repeated.once(`s${index}`, '', small.run, bytesOf, isFinal);
    await repeated.once('s4096', '', small.run, bytesOf, isFinal);
    expect(small.runs()).toBe(4_097);
    await repeated.once('s0', '', small.run, bytesOf, isFinal);
    expect(small.runs()).toBe(4_098);
  });
});
