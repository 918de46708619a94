import { expect, it } from 'vitest';
import { QueueCounters, ReplicaCounters, STOP_LEVELS } from '../../dist/protocol/queue-counters.js';

const take = (counters = new QueueCounters(1)) => counters.take()?.counters as ReplicaCounters;

it('shows what one thread wrote to another view of the same line', () => {
  const all = new QueueCounters(3);
  all.take();
  const line = all.take() as NonNullable<ReturnType<typeof all.take>>;
  const other = new ReplicaCounters(all.memory, line.slot);
  line.counters.dispatchGiven(3);
  line.counters.dispatchGiven(1);
  expect(other).toMatchObject({ ongoing: 4, dispatches: 2 });
  other.dispatchDone(2, 1);
  other.setBytes(2 ** 40);
  expect(line.counters).toMatchObject({ ongoing: 1, dispatches: 1, completed: 2, failed: 1, bytes: 2 ** 40 });
});

it('counts the other replicas that have requests', () => {
  const all = new QueueCounters(3);
  const [first, second, third] = [take(all), take(all), take(all)];
  first.dispatchGiven(2);
  expect([first.othersAtWork, second.othersAtWork]).toEqual([0, 1]);
  third.dispatchGiven(1);
  third.dispatchGiven(1);
  expect([first.othersAtWork, second.othersAtWork, third.othersAtWork]).toEqual([1, 2, 1]);
  first.dispatchDone(2, 0);
  expect([first.othersAtWork, second.othersAtWork, third.othersAtWork]).toEqual([1, 1, 0]);
});

it('ends a sleep at once when a message was posted before it began', () => {
  const counters = take();
  const { posted } = counters;
  counters.messagePosted();
  counters.sleepUntilPosted(posted);
  expect(counters.posted).toBe(posted + 1);
});

it('hands out each line once, until it is given back', () => {
  const all = new QueueCounters(2);
  const slots = [all.take()?.slot, all.take()?.slot];
  expect(new Set(slots).size).toBe(2);
  expect(all.take()).toBeUndefined();
  all.giveBack(slots[0] as number);
  expect(all.take()?.slot).toBe(slots[0]);
});

it('lets no native call begin once the stop is raised', () => {
  const counters = take();
  expect(counters.enterNativeCall()).toBe(true);
  counters.raiseStop(STOP_LEVELS.stopping);
  expect(counters.enterNativeCall()).toBe(false);
  expect(counters.enterNativeCall(STOP_LEVELS.stopping)).toBe(true);
  counters.raiseStop(STOP_LEVELS.exiting);
  expect(counters.enterNativeCall(STOP_LEVELS.stopping)).toBe(false);
  counters.leaveNativeCall();
  counters.leaveNativeCall();
  expect(counters.isInNativeCall).toBe(false);
});

it('never lowers a stop', () => {
  const counters = take();
  counters.raiseStop(STOP_LEVELS.exiting);
  counters.raiseStop(STOP_LEVELS.stopping);
  expect(counters.enterNativeCall(STOP_LEVELS.stopping)).toBe(false);
});

it('tells when the last native call has ended', async () => {
  const counters = take();
  counters.enterNativeCall();
  counters.enterNativeCall();
  let isOutside = false;
  const outside = counters.untilOutsideNativeCall().then(() => {
    isOutside = true;
  });
  counters.leaveNativeCall();
  await new Promise(setImmediate);
  expect(isOutside).toBe(false);
  counters.leaveNativeCall();
  await outside;
});

it('says of a thread that it has begun until the line is cleared for the next one', () => {
  const counters = take();
  expect(counters.hasBegun).toBe(false);
  counters.threadBegan();
  expect(counters.hasBegun).toBe(true);
  counters.reset();
  expect(counters.hasBegun).toBe(false);
});
