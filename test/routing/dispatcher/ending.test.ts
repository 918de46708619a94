import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import type { RoutedRequest } from '../../../dist/routing/pending-request.js';
import { codeOf } from '../../support/code-of.js';
import { flush } from '../../support/flush.js';
import { A, B, type DispatcherSettings, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

let { clock, dispatcher, holds, addReplica, submit } = startDispatcher();

function setUp(settings?: DispatcherSettings): void {
  ({ clock, dispatcher, holds, addReplica, submit } = startDispatcher(settings));
}

beforeEach(() => setUp());

describe('the feeds of a request', () => {
  it('are released once, when it is over: answered, failed, cancelled, too late or refused, and not for a retry', async () => {
    setUp({ maxQueuedRequests: 3, maxOngoingRequests: 1 });
    const released: string[] = [];
    const call = (name: string, terms: Partial<RoutedRequest> = {}) =>
      submit(A, { ...terms, releaseFeeds: () => released.push(name) });
    const [cancel, late] = [new AbortController(), new AbortController()];
    const replica = addReplica('r0');
    const answers = [call('retried')];
    await flush();
    answers.push(call('cancelled', { signal: cancel.signal }), call('too late', { deadline: clock.now() + 5 }));
    answers.push(call('cancelled and over', { signal: late.signal, deadline: clock.now() + 1e6 }), call('overflow'));
    await flush();
    expect(released).toEqual(['overflow']);
    cancel.abort();
    clock.advance(5);
    replica.crash(() => dispatcher.removeReplica(replica));
    await flush();
    expect(released).toEqual(['overflow', 'cancelled', 'too late']);
    await work(addReplica('r1'));
    late.abort();
    dispatcher.close(new InfermuxError('ENGINE_CLOSED', 'closing'));
    answers.push(call('refused'));
    const codes = await Promise.all(answers.map(codeOf));
    expect(codes).toEqual(['answered', 'CANCELLED', 'DEADLINE_EXCEEDED', 'answered', 'QUEUE_FULL', 'ENGINE_CLOSED']);
    expect(released).toEqual(['overflow', 'cancelled', 'too late', 'retried', 'cancelled and over', 'refused']);
  });
});

describe('ending', () => {
  it('finishes accepted work after close and refuses new work', async () => {
    const replica = addReplica('r0');
    const answers = [submit(A), submit(B)];
    dispatcher.close(new InfermuxError('ENGINE_CLOSED', 'closing'));
    expect(await codeOf(submit(A))).toBe('ENGINE_CLOSED');
    const idle = dispatcher.untilIdle();
    await work(replica);
    await idle;
    expect(await Promise.all(answers.map(codeOf))).toEqual(['answered', 'answered']);
  });

  it('rejects waiting and running requests on destroy', async () => {
    addReplica('r0');
    const answers = [submit(A), submit(B)];
    dispatcher.destroy(new InfermuxError('ENGINE_CLOSED', 'destroyed'));
    expect(await Promise.all(answers.map(codeOf))).toEqual(['ENGINE_CLOSED', 'ENGINE_CLOSED']);
    expect(holds()).toBe(0);
    await dispatcher.untilIdle();
  });
});
