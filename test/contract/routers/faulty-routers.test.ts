import { describe, expect, it } from 'vitest';
import type { ReplicaView, RequestRouter } from '../../../dist/contracts/request-router.js';
import { RouterWorld } from '../../support/routing/router-world.js';

function throws(action: () => void): boolean {
  try {
    action();
  } catch {
    return true;
  }
  return false;
}

describe('a router that does what it should not', () => {
  const stranger = { id: 'stranger' } as never;
  it.each<[string, string, Partial<RequestRouter>]>([
    [
      'throws',
      'threw',
      {
        chooseReplicas: () => {
          throw new Error('no idea');
        },
      },
    ],
    [
      'throws what is no error',
      'threw',
      {
        chooseReplicas: () => {
          throw undefined;
        },
      },
    ],
    ['returns nothing', 'not-ranks', { chooseReplicas: () => undefined as never }],
    ['returns a list of replicas instead of ranks', 'not-ranks', { chooseReplicas: (all) => all as never }],
    [
      'returns a list without end',
      'not-ranks',
      { chooseReplicas: () => Object.assign([], { length: 2 ** 32 - 1 }) as never },
    ],
    [
      'returns a rank without end',
      'not-ranks',
      { chooseReplicas: () => [new Proxy([], { get: (_, key) => (key === 'length' ? 1e9 : undefined) })] as never },
    ],
    ['is asynchronous', 'not-ranks', { chooseReplicas: (async () => []) as never }],
    [
      'is asynchronous and fails',
      'not-ranks',
      {
        chooseReplicas: (async () => {
          throw new Error('late');
        }) as never,
      },
    ],
    ['ranks what is no replica', 'unknown-replica', { chooseReplicas: () => [[stranger]] }],
    ['ranks null', 'unknown-replica', { chooseReplicas: () => [[null as never]] }],
    ['never ranks anything', 'ranked-none', { chooseReplicas: () => [] }],
    ['ranks empty ranks alone', 'ranked-none', { chooseReplicas: () => [[], []] }],
    [
      'returns a list of promises',
      'not-ranks',
      {
        chooseReplicas: ((all: unknown[]) =>
          all.map(async () => {
            throw new Error('x');
          })) as never,
      },
    ],
    [
      'ranks promises',
      'unknown-replica',
      {
        chooseReplicas: ((all: unknown[]) => [
          all.map(async () => {
            throw new Error('x');
          }),
        ]) as never,
      },
    ],
    [
      'changes what it is shown of the request',
      'threw',
      {
        chooseReplicas: (_, request) => {
          (request as { modelKey: string }).modelKey = 'x';
          return [];
        },
      },
    ],
    ['has a hook that is no function', 'hook-threw', { onRequestRouted: 'yes' as never }],
    [
      'has a hook that throws',
      'hook-threw',
      {
        onRequestRouted: () => {
          throw new Error('hook');
        },
      },
    ],
    [
      'has a hook that rejects',
      'hook-threw',
      {
        onRequestCompleted: (async () => {
          throw new Error('hook');
        }) as never,
      },
    ],
    [
      'has hooks that all throw',
      'hook-threw',
      {
        onReplicasChanged: () => {
          throw new Error('hook');
        },
        onRequestCompleted: () => {
          throw new Error('hook');
        },
        onReplicaFailed: () => {
          throw new Error('hook');
        },
      },
    ],
  ])('and %s is passed over, and told', async (_, fault, own) => {
    const world = new RouterWorld({ chooseReplicas: (candidates) => [candidates], ...own });
    for (let index = 0; index < 3; index += 1) world.add();
    for (let index = 0; index < 40; index += 1) world.submit(index);
    await world.settle();
    expect(world.answers).toEqual(Array.from({ length: 40 }, () => 'answered'));
    expect(new Set(world.faults.map((line) => line.split(':')[0]))).toEqual(new Set([fault]));
  });

  it('cannot change what it is shown', async () => {
    const seen: unknown[] = [];
    const world = new RouterWorld({
      spill: 'router',
      chooseReplicas: (candidates, request) => {
        const first = candidates[0] as ReplicaView;
        const writes = [
          () => Object.assign(first, { id: 'other' }),
          () => Object.assign(first.labels, { zone: 'other' }),
          () => Object.assign(request, { model: 'other' }),
          () => (first.models as Map<string, string>).set('other', 'loaded'),
        ];
        seen.push([candidates.length, writes.filter((write) => !throws(write)).length]);
        (candidates as unknown[]).reverse();
        (candidates as unknown[]).length = 1;
        return [candidates, [{ ...candidates[0], note: request.model } as never]];
      },
    });
    for (let index = 0; index < 3; index += 1) world.add();
    for (let index = 0; index < 10; index += 1) world.submit(0);
    await world.settle();
    expect(world.answers).toHaveLength(10);
    expect(seen.length).toBeGreaterThan(1);
    expect(seen).toEqual(seen.map(() => [3, 0]));
    expect(world.faults).toEqual([]);
  });
});
