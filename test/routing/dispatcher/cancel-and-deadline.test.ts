import { beforeEach, describe, expect, it } from 'vitest';
import { codeOf } from '../../support/code-of.js';
import { A, B, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

let { clock, dispatcher, given, holds, addReplica, submit } = startDispatcher();

beforeEach(() => {
  ({ clock, dispatcher, given, holds, addReplica, submit } = startDispatcher());
});

describe('cancel and deadline', () => {
  it('rejects a waiting request at once and lets it leave the queue', async () => {
    const controller = new AbortController();
    const answer = submit(A, { signal: controller.signal });
    expect(dispatcher.queued).toBe(1);
    controller.abort('enough');
    await expect(answer).rejects.toMatchObject({ code: 'CANCELLED', cause: 'enough' });
    expect(dispatcher.queued).toBe(0);
    expect(holds()).toBe(0);
  });

  it('rejects a running request at once and ends it unseen', async () => {
    const replica = addReplica('r0');
    const controller = new AbortController();
    const answer = submit(A, { signal: controller.signal });
    controller.abort();
    expect(await codeOf(answer)).toBe('CANCELLED');
    expect(replica.ongoing).toBe(1);
    await work(replica);
    const next = submit(A);
    await work(replica);
    expect(await codeOf(next)).toBe('answered');
  });

  it('refuses a signal that is aborted and a deadline that has passed, without a trace', async () => {
    expect(await codeOf(submit(A, { signal: AbortSignal.abort() }))).toBe('CANCELLED');
    expect(await codeOf(submit(A, { deadline: 0 }))).toBe('DEADLINE_EXCEEDED');
    expect({ queued: dispatcher.queued, timers: clock.timers, holds: holds() }).toEqual({
      queued: 0,
      timers: 0,
      holds: 0,
    });
  });

  it('rejects with DEADLINE_EXCEEDED when the deadline passes, waiting or running', async () => {
    const replica = addReplica('r0');
    const running = submit(A, { deadline: 10 });
    const waiting = submit(B, { deadline: 10 });
    clock.advance(10);
    await expect(running).rejects.toThrow('while a replica worked on it');
    await expect(waiting).rejects.toThrow('while it waited for a replica');
    await work(replica);
    expect(given).toEqual(['a>r0']);
  });

  it('leaves no listener and no timer behind an answer', async () => {
    const replica = addReplica('r0');
    let listeners = 0;
    const signal = {
      aborted: false,
      addEventListener: () => {
        listeners += 1;
      },
      removeEventListener: () => {
        listeners -= 1;
      },
    } as unknown as AbortSignal;
    const answer = submit(A, { signal, deadline: 1_000 });
    expect({ listeners, timers: clock.timers }).toEqual({ listeners: 1, timers: 1 });
    await work(replica);
    await answer;
    expect({ listeners, timers: clock.timers, holds: holds() }).toEqual({ listeners: 0, timers: 0, holds: 0 });
  });
});
