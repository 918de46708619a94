import { describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import { PIECES_A_TURN } from '../../../dist/common/turn-portions.js';
import { fakeModel } from '../../support/fakes/fake-requests.js';
import { flush } from '../../support/flush.js';
import { A, B, startDispatcher } from '../../support/routing/start-dispatcher.js';

const MANY = 5 * PIECES_A_TURN;
const closed = new InfermuxError('ENGINE_CLOSED', 'the test is over');

/** A dispatcher with requests that wait, and the codes of their answers in the order in which they come. */
function startWaiting(terms: { signal?: AbortSignal; deadline?: number } = {}, models = [A]) {
  const world = startDispatcher({ maxQueuedRequests: -1, defers: true });
  const codes: string[] = [];
  let told = 0;
  const submit = (model = A, own: typeof terms = {}) => {
    const tell = (code: string) => {
      told += 1;
      codes.push(code);
    };
    world.submit(model, own).then(
      () => tell('answered'),
      ({ code }: InfermuxError) => tell(code),
    );
  };
  for (let request = 0; request < MANY; request += 1) submit(models[request % models.length], terms);
  world.clock.runDeferred();
  /** How many were told in this turn, and in each one after it until all were. */
  const turns = async (all = MANY) => {
    const perTurn: number[] = [];
    for (let before = 0; told < all; before = told) {
      if (perTurn.length > 0) world.clock.runDeferred();
      await flush();
      perTurn.push(told - before);
      if (perTurn.length > 100) break;
    }
    return perTurn;
  };
  return { ...world, codes, submit, turns };
}

describe('requests that one event ends', () => {
  const portions = Array.from({ length: MANY / PIECES_A_TURN }, () => PIECES_A_TURN);

  it.each<[string, string, (world: ReturnType<typeof startWaiting>, controller: AbortController) => void]>([
    ['their signal', 'CANCELLED', (_, controller) => controller.abort('enough')],
    ['their deadline', 'DEADLINE_EXCEEDED', ({ clock }) => clock.advance(50)],
    ['an outage', 'ENGINE_CLOSED', ({ dispatcher }) => dispatcher.declareOutage(closed)],
    ['destroy', 'ENGINE_CLOSED', ({ dispatcher }) => dispatcher.destroy(closed)],
  ])('are told in portions: %s', async (_, code, end) => {
    const controller = new AbortController();
    const world = startWaiting({ signal: controller.signal, deadline: 50 }, [A, B]);
    end(world, controller);
    expect(world.dispatcher.queued).toBe(0);
    expect(await world.turns()).toEqual(portions);
    expect(world.codes).toEqual(Array(MANY).fill(code));
    expect({ isIdle: world.dispatcher.isIdle, holds: world.holds(), timers: world.clock.timers }).toEqual({
      isIdle: true,
      holds: 0,
      timers: 0,
    });
  });

  it('are told in portions: a load that ends its replica', async () => {
    const world = startWaiting();
    const replica = world.addReplica('r0');
    expect(replica.loadUnderWay?.key).toBe(A.key);
    replica.crash((error) => world.dispatcher.removeReplica(replica, error));
    await flush();
    expect(Math.max(...(await world.turns()))).toBe(PIECES_A_TURN);
    expect(new Set(world.codes)).toEqual(new Set(['MODEL_LOAD_FAILED']));
  });

  it('are over at once: no replica is given one, and those of others take its slot', async () => {
    const controller = new AbortController();
    const world = startWaiting({ signal: controller.signal });
    world.submit(A);
    controller.abort();
    const replica = world.addReplica('r0');
    world.clock.runDeferred();
    while (replica.step()) {
      await flush();
      world.clock.runDeferred();
    }
    await world.turns(MANY + 1);
    expect(world.given).toEqual(['a>r0']);
    expect(world.codes.filter((code) => code === 'answered')).toHaveLength(1);
  });

  it('are not given to another replica when the one that worked on them dies before they are told', async () => {
    const controller = new AbortController();
    const world = startWaiting({ signal: controller.signal });
    const late = world.addReplica('r0');
    expect(late.ongoing).toBe(1);
    // The portion of this turn is used up before.
    world.submit(B, { deadline: 0 });
    for (let request = 1; request < PIECES_A_TURN; request += 1) world.submit(B, { deadline: 0 });
    controller.abort();
    late.crash((error) => world.dispatcher.removeReplica(late, error));
    await flush();
    world.addReplica('r1');
    await world.turns(MANY + PIECES_A_TURN);
    expect(world.given).toEqual(['a>r0']);
    expect(world.codes.filter((code) => code === 'CANCELLED')).toHaveLength(MANY);
  });

  it('are each told once and of the first event, and whoever waits for them all waits for the last', async () => {
    const controller = new AbortController();
    const world = startWaiting({ signal: controller.signal, deadline: 50 });
    let isIdle = false;
    let isUnused = false;
    world.dispatcher.untilModelUnused(A.key).then(() => {
      isUnused = true;
    });
    controller.abort();
    world.dispatcher.close(closed);
    world.dispatcher.untilIdle().then(() => {
      isIdle = true;
    });
    world.dispatcher.destroy(closed);
    world.clock.advance(100);
    await flush();
    expect({ isIdle, isUnused, holds: world.holds() }).toEqual({ isIdle: false, isUnused: false, holds: 1 });
    await world.turns();
    await flush();
    expect({ isIdle, isUnused, holds: world.holds() }).toEqual({ isIdle: true, isUnused: true, holds: 0 });
    expect(world.codes).toEqual(Array(MANY).fill('CANCELLED'));
  });
});

it('a signal that follows another one ends all its requests, whatever their models', async () => {
  const controller = new AbortController();
  const models = Array.from({ length: 50 }, (_, index) => fakeModel(`m${index}`));
  const world = startWaiting({ signal: AbortSignal.any([controller.signal]) }, models);
  controller.abort('over');
  await world.turns();
  expect(world.codes).toEqual(Array(MANY).fill('CANCELLED'));
  for (const { key } of models) world.dispatcher.forgetModel(key);
  expect({ queued: world.dispatcher.queued, timers: world.clock.timers }).toEqual({ queued: 0, timers: 0 });
});

it('whoever waits for a model is told when the last of its requests is, however many wait for it', async () => {
  const world = startWaiting({}, [A, B]);
  let unused = 0;
  for (let wait = 0; wait < 3; wait += 1) {
    for (const { key } of [A, B]) world.dispatcher.untilModelUnused(key).then(() => (unused += 1));
  }
  world.dispatcher.destroy(closed);
  await world.turns();
  await flush();
  expect(unused).toBe(6);
});
