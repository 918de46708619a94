import { expect, it } from 'vitest';
import { DownloadProgress } from '../../../dist/models/finder/download-progress.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';

it('downloads are told of every ten seconds, as long as there are any', async () => {
  const clock = new FakeClock();
  const told: unknown[] = [];
  let received = 0;
  const progress = new DownloadProgress({
    clock,
    log: (_, { models, receivedBytes }) => told.push([models, receivedBytes]),
    received: (bytes) => {
      received += bytes;
    },
  });
  const ends: (() => void)[] = [];
  const download = () => new Promise<void>((resolve) => ends.push(resolve));
  const first = progress.during('m1', download);
  progress.received(100);
  await clock.advance(9_999);
  expect(told).toEqual([]);
  const second = progress.during('m2@3', download);
  progress.received(1);
  await clock.advance(1);
  expect(told.splice(0)).toEqual([[['m1', 'm2@3'], 101]]);
  ends[0]?.();
  await first;
  progress.received(7);
  await clock.advance(10_000);
  expect(told.splice(0)).toEqual([[['m2@3'], 7]]);
  ends[1]?.();
  await second;
  await clock.advance(60_000);
  expect(told).toEqual([]);
  expect(received).toBe(108);
});
