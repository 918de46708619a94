import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PendingRequestView, RequestRouter } from '../../../dist/contracts/request-router.js';
import { fakeRequest } from '../../support/fakes/fake-requests.js';
import { flush } from '../../support/flush.js';
import { type Step, step } from '../../support/routing/router-steps.js';
import { MODELS, RouterWorld } from '../../support/routing/router-world.js';

describe('hooks', () => {
  it('tell of each request that is routed and, once, of its end; of replicas that come, go and fail', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async (steps) => {
        const open = new Map<PendingRequestView, string>();
        const [present, failed, wrong]: [Set<string>, string[], string[]] = [new Set(), [], []];
        const router: RequestRouter = {
          chooseReplicas: (candidates) => [candidates],
          onRequestRouted: ({ id }, request) => {
            if (open.has(request) || !present.has(id)) wrong.push(`routed to ${id}`);
            open.set(request, id);
          },
          onRequestCompleted: ({ id }, request) => {
            if (open.get(request) !== id) wrong.push(`completed in ${id}`);
            open.delete(request);
          },
          onReplicasChanged: (candidates) => {
            present.clear();
            for (const { id } of candidates) present.add(id);
          },
          onReplicaFailed: ({ id }) => failed.push(id),
        };
        const world = new RouterWorld(router);
        for (let index = 0; index < 3; index += 1) world.add();
        let crashes = 0;
        for (const each of steps as Step[]) {
          if (each.kind === 'submit') world.submit(each.model);
          else if (each.kind === 'step') world.replicas[each.replica]?.step();
          else if (each.kind === 'advance') world.clock.advance(each.milliseconds);
          else {
            crashes += 1;
            await world.crash(each.replica);
          }
          await flush();
        }
        await world.settle();
        expect(wrong).toEqual([]);
        expect(world.faults).toEqual([]);
        expect(open.size).toBe(0);
        expect(failed).toHaveLength(crashes);
        expect(present).toEqual(new Set(world.replicas.map(({ id }) => id)));
      }),
      { numRuns: 60 },
    );
  });
});

it('a hook whose getter throws is told, and no request is lost', async () => {
  const world = new RouterWorld({
    chooseReplicas: (candidates) => [candidates],
    get onRequestRouted(): never {
      throw new Error('hidden');
    },
  });
  world.add();
  for (let index = 0; index < 5; index += 1) world.submit(index);
  await world.settle();
  expect(world.answers).toHaveLength(5);
  expect(world.faults).toHaveLength(1);
});

it('a router that sends requests while it is asked, or told, keeps nobody waiting', async () => {
  let left = 6;
  const send = () => {
    if (left-- > 0) world.submit(left);
  };
  const world: RouterWorld = new RouterWorld(
    {
      chooseReplicas: (candidates) => {
        send();
        return [candidates];
      },
      onRequestRouted: send,
      onRequestCompleted: send,
    },
    { defers: true },
  );
  world.add();
  for (let index = 0; index < 2; index += 1) world.submit(0);
  await world.settle();
  expect([world.answers.length, world.submitted, world.dispatcher.queued]).toEqual([8, 8, 0]);
});

it('a router that cancels requests while it is asked leaves none that is counted or given twice', async () => {
  const controllers = [0, 1, 2].map(() => new AbortController());
  let asked = 0;
  const world = new RouterWorld({
    chooseReplicas: (candidates) => {
      for (const controller of asked++ === 0 ? controllers : []) controller.abort();
      return [candidates];
    },
  });
  world.add();
  const model = MODELS[0] as (typeof MODELS)[0];
  const codes = await Promise.all(
    controllers.map(({ signal }) =>
      world.dispatcher.submit({ ...fakeRequest(model), signal }, () => 'answered').catch(({ code }) => code as string),
    ),
  );
  expect(new Set(codes)).toEqual(new Set(['CANCELLED']));
  expect(world.dispatcher.queued).toBe(0);
  expect(world.given).toEqual([]);
  world.submit(0);
  await world.settle();
  expect([world.given.length, world.dispatcher.queued]).toEqual([1, 0]);
});
