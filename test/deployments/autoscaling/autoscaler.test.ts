import { describe, expect, it } from 'vitest';
import { Autoscaler, desiredReplicas, readAutoscaling } from '../../../dist/deployments/autoscaling/autoscaler.js';

const options = (more: object = {}) => readAutoscaling('autoscaling', { maxReplicas: 10, ...more }, 1_024);

describe('the number of replicas that so many requests want', () => {
  it.each<[string, object, number, number, number]>([
    ['as many as there are', {}, 4, 8, 4],
    ['more, rounded up', {}, 4, 9, 5],
    ['fewer, rounded up', {}, 4, 3, 2],
    ['no more than the most', {}, 4, 100, 10],
    ['no fewer than the least', { minReplicas: 2 }, 4, 0, 2],
    ['none where none is the least', { minReplicas: 0 }, 4, 0, 0],
    ['one for any request', { minReplicas: 0 }, 1, 0.1, 1],
    ['by the target', { targetOngoingRequests: 0.5 }, 1, 3, 6],
    ['half of the way up', { upscalingFactor: 0.5 }, 2, 12, 4],
    ['beyond the way up', { upscalingFactor: 2 }, 2, 8, 6],
    ['half of the way down', { downscalingFactor: 0.5 }, 8, 4, 5],
    ['and not one more for a rounding error', { targetOngoingRequests: 0.1 }, 1, 0.3, 3],
  ])('%s', (_, more, current, requests, expected) => {
    expect(desiredReplicas(options(more), current, requests)).toBe(expected);
  });
});

describe('when there are more or fewer', () => {
  /** The number after each second, with so many requests in each. */
  function story(more: object, replicas: number, requests: readonly number[]): number[] {
    const autoscaler = new Autoscaler(options(more));
    let current = replicas;
    return requests.map((count, second) => {
      current = autoscaler.sample(1_000 * second, current, count);
      return current;
    });
  }
  const now = { lookBackMs: 1, upscaleDelayMs: 0, downscaleDelayMs: 0 };

  it.each<[string, object, number, number[], number[]]>([
    ['at once without delays', now, 1, [2, 8, 2], [1, 4, 1]],
    ['more after the delay', { ...now, upscaleDelayMs: 2_000 }, 1, [8, 8, 8, 8], [1, 1, 4, 4]],
    ['not for a moment', { ...now, upscaleDelayMs: 2_000 }, 1, [8, 8, 2, 8, 8], [1, 1, 1, 1, 1]],
    ['fewer after the delay', { ...now, downscaleDelayMs: 2_000 }, 4, [2, 2, 2, 2], [4, 4, 1, 1]],
    ['by the average of the look-back', { ...now, lookBackMs: 2_001 }, 1, [0, 6, 6, 6], [1, 2, 2, 3]],
    [
      'the next step waits for its own delay',
      { ...now, upscaleDelayMs: 1_000, maxReplicas: 9 },
      1,
      [8, 8, 18, 18, 18],
      [1, 4, 4, 9, 9],
    ],
  ])('%s', (_, more, replicas, requests, expected) => {
    expect(story(more, replicas, requests)).toEqual(expected);
  });
});
