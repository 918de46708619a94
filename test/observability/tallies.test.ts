import fc from 'fast-check';
import { Histogram, type Metric, Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { CounterTally, HistogramTally } from '../../dist/observability/tallies.js';

const options = { name: 'seconds', help: 'Seconds.', labelNames: ['model'], buckets: [0.1, 1, 10] };

it('a histogram tally reads like a histogram of prom-client with the same values', async () => {
  const values = fc.array(
    fc.record({ model: fc.constantFrom('a', 'b'), value: fc.double({ min: 0, max: 20, noNaN: true }) }),
  );
  await fc.assert(
    fc.asyncProperty(values, async (observations) => {
      const [theirs, ours] = [new Registry(), new Registry()];
      const histogram = new Histogram({ ...options, registers: [theirs] });
      const tally = new HistogramTally(options);
      ours.registerMetric(tally as unknown as Metric);
      for (const { model, value } of observations) {
        histogram.observe({ model }, value);
        tally.observe(model, value);
      }
      const linesOf = async (registry: Registry) =>
        (await registry.metrics())
          .split('\n')
          .map((line) => line.replace(/\{(.*)\}/, (_, labels: string) => `{${labels.split(',').sort()}}`));
      expect(await linesOf(ours)).toEqual(await linesOf(theirs));
      expect(await ours.getMetricsAsJSON()).toHaveLength(1);
    }),
  );
});

it('a counter tally counts on from one reading to the next', async () => {
  const registry = new Registry();
  const tally = new CounterTally({ name: 'requests_total', help: 'Requests.', labelNames: ['model'] });
  registry.registerMetric(tally.metric);
  tally.add('a', 2);
  expect(await registry.metrics()).toContain('requests_total{model="a"} 2');
  tally.add('a', 3);
  tally.add('b', 1);
  const text = await registry.metrics();
  expect(text).toContain('requests_total{model="a"} 5');
  expect(text).toContain('requests_total{model="b"} 1');
});
