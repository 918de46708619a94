import { beforeEach, describe, expect, it } from 'vitest';
import type { InfermuxError } from '../../../dist/common/errors.js';
import { codeOf } from '../../support/code-of.js';
import { flush } from '../../support/flush.js';
import { A, B, type DispatcherSettings, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

let { clock, addReplica, submit } = startDispatcher();

function setUp(settings?: DispatcherSettings): void {
  ({ clock, addReplica, submit } = startDispatcher(settings));
}

beforeEach(() => setUp());

describe('the bound on waiting requests', () => {
  it('refuses one more with QUEUE_FULL and says when to come back', async () => {
    setUp({ maxQueuedRequests: 2 });
    const [first, second] = [submit(A), submit(A)];
    await expect(submit(A)).rejects.toMatchObject({ code: 'QUEUE_FULL', retryable: true, retryAfterMs: 1_000 });
    await work(addReplica('r0'));
    await Promise.all([first, second]);
  });

  it('measures retryAfterMs by how fast requests leave the queue', async () => {
    setUp({ maxQueuedRequests: 5, maxOngoingRequests: 1 });
    const replica = addReplica('r0');
    submit(A);
    await work(replica);
    for (let request = 0; request < 6; request += 1) submit(A);
    for (let request = 0; request < 100; request += 1) {
      clock.advance(20);
      replica.step();
      await flush();
      submit(A);
    }
    // 50 leave in a second and 6 would be waiting, the refused one included; idle time in between does not count.
    const refused = () => submit(A).catch((error: InfermuxError) => error.retryAfterMs);
    expect(await refused()).toBeCloseTo(120, -1);
    await work(replica);
    clock.advance(3_600_000);
    for (let request = 0; request < 6; request += 1) submit(A);
    expect(await refused()).toBeLessThanOrEqual(120);
  });

  it('accepts what a free replica takes at once, even with no place to wait', async () => {
    setUp({ maxQueuedRequests: 0 });
    const replica = addReplica('r0');
    const answer = submit(A);
    expect(await codeOf(submit(B))).toBe('QUEUE_FULL');
    await work(replica);
    expect(await codeOf(answer)).toBe('answered');
  });
});
