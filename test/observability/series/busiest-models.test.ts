import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { BusiestModels } from '../../../dist/observability/series/busiest-models.js';

const MINUTE = 60_000;

let now: number;
let gone: Set<string>;

beforeEach(() => {
  now = 0;
  gone = new Set();
});

const start = (most: number) =>
  new BusiestModels({ most, seconds: [1], now: () => now, isThere: (model) => !gone.has(model) });

/** The requests that were counted, by label. */
function requestsOf(models: BusiestModels): Record<string, number> {
  const counted = models.lines((series) => series.requests).counted();
  return Object.fromEntries(Array.from(counted, ({ labels, line }) => [labels['model'] ?? 'all', line.sum]));
}

function use(models: BusiestModels, model: string, times: number): void {
  for (let time = 0; time < times; time += 1) models.requestAccepted(model);
}

const sumOf = (requests: Record<string, number>) => Object.values(requests).reduce((sum, one) => sum + one, 0);

describe('series of models', () => {
  it('go to the first models that come, and the others share one', () => {
    const models = start(2);
    for (const model of ['a', 'b', 'c', 'd', 'a']) models.requestAccepted(model);
    expect(requestsOf(models)).toEqual({ a: 2, b: 1, '(other)': 2 });
  });

  it('change to a model that is clearly busier, which counts from then on, and the sum stays', () => {
    const models = start(2);
    use(models, 'a', 10);
    use(models, 'b', 2);
    use(models, 'c', 30);
    models.review();
    expect(requestsOf(models)).toEqual({ a: 10, '(other)': 32 });
    use(models, 'b', 1);
    use(models, 'c', 1);
    expect(requestsOf(models)).toEqual({ a: 10, c: 1, '(other)': 33 });
  });

  it('move what is counted elsewhere than requests too', () => {
    const models = start(1);
    models.of('a').runDuration.observe(0.002);
    models.of('b').runDuration.observe(7);
    gone.add('a');
    models.review();
    const [other, ...more] = [...models.lines((series) => series.runDuration).counted()];
    expect([other?.labels, other?.line.sum, more]).toEqual([{ model: '(other)' }, 7.002, []]);
    expect(other?.line.counts.reduce((sum, count) => sum + count)).toBe(2);
  });

  it('stay where they are while models are used alike', () => {
    const models = start(5);
    const own = new Set<string>();
    let random = 1;
    for (let round = 0; round < 200; round += 1) {
      for (let request = 0; request < 100; request += 1) {
        random = (random * 48_271) % 2_147_483_647;
        models.requestAccepted(`model-${random % 10}`);
      }
      now += MINUTE / 4;
      models.review();
      for (const model of Object.keys(requestsOf(models))) own.add(model);
    }
    expect([...own].filter((model) => model !== '(other)')).toHaveLength(5);
  });

  it('leave a model that is no longer used, when another one is', () => {
    const models = start(1);
    use(models, 'old', 100_000);
    models.review();
    let minutes = 0;
    while (!models.has('new')) {
      use(models, 'new', 60);
      now += MINUTE;
      minutes += 1;
      models.review();
    }
    // After a half-life of five minutes for each halving of what was 100,000.
    expect(minutes).toBeGreaterThan(20);
    expect(minutes).toBeLessThan(60);
  });

  it('find a busy model among very many that come once', () => {
    const models = start(10);
    for (let index = 0; index < 10_000; index += 1) {
      models.requestAccepted(`once-${index}`);
      if (index % 9 === 0) models.requestAccepted('busy');
    }
    models.review();
    expect(models.has('busy')).toBe(true);
  });

  it('leave models that are gone, at once when another one needs the place', () => {
    const models = start(3);
    for (const model of ['a', 'b', 'c']) models.requestAccepted(model);
    gone = new Set(['a', 'b']);
    models.requestAccepted('d');
    expect(requestsOf(models)).toEqual({ c: 1, d: 1, '(other)': 2 });
    // A late answer to a request for a model that is gone.
    expect(models.of('a').name).toBe('(other)');
    gone.clear();
    models.requestAccepted('a');
    expect(requestsOf(models)).toEqual({ c: 1, d: 1, a: 1, '(other)': 2 });
  });

  it('are not broken by a model that is called as the others together are', () => {
    const models = start(1);
    use(models, '(other)', 50);
    use(models, 'a', 1);
    use(models, 'b', 1);
    models.review();
    expect(requestsOf(models)).toEqual({ a: 1, '(other)': 51 });
  });

  it('are one without a label when there are to be none by model', () => {
    const models = start(0);
    expect(requestsOf(models)).toEqual({ all: 0 });
    use(models, 'a', 2);
    use(models, '(other)', 1);
    models.review();
    expect(requestsOf(models)).toEqual({ all: 3 });
  });

  it('never lose a count and are never more than allowed, whatever happens', () => {
    const model = fc.integer({ min: 0, max: 12 }).map((index) => (index === 0 ? '(other)' : `m${index}`));
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ do: fc.constant('use'), model, times: fc.nat(30) }) },
      fc.record({ do: fc.constantFrom('remove', 'bring back'), model }),
      fc.record({ do: fc.constant('wait'), ms: fc.nat(10 * MINUTE) }),
      fc.record({ do: fc.constant('review') }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 60 }), (most, steps) => {
        gone = new Set();
        const models = start(most);
        let used = 0;
        for (const each of steps) {
          const before = requestsOf(models);
          if ('times' in each) {
            use(models, each.model, each.times);
            used += each.times;
          } else if ('ms' in each) now += each.ms;
          else if ('model' in each && each.do === 'remove') gone.add(each.model);
          else if ('model' in each) gone.delete(each.model);
          else models.review();
          const after = requestsOf(models);
          expect(sumOf(after)).toBe(used);
          expect(Object.keys(after).length).toBeLessThanOrEqual(most + 1);
          // A series goes on or leaves; it does not begin anew in one step.
          for (const [label, count] of Object.entries(after)) {
            if (label in before) expect(count).toBeGreaterThanOrEqual(before[label] ?? 0);
          }
          if (each.do === 'review')
            expect(Object.keys(after).filter((label) => gone.has(label) && label !== '(other)')).toEqual([]);
        }
      }),
      { numRuns: 200 },
    );
  });
});
