import fc from 'fast-check';
import { Counter, Histogram, type Metric, Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { MetricsRegistration } from '../../../dist/observability/registry/metrics-registration.js';
import { ScrapeTurns } from '../../../dist/observability/registry/scrape-turns.js';

const BOUNDS = [0.1, 1, 10];
const TYPES = [Registry.PROMETHEUS_CONTENT_TYPE, Registry.OPENMETRICS_CONTENT_TYPE];
const presence = () => () => true;
const turns = () => new ScrapeTurns(setImmediate, () => undefined);

function startCounter() {
  const metrics = new MetricsRegistration(undefined, turns(), presence);
  return { registry: metrics.registry, requests: metrics.counter('requests_total', 'Requests.', ['model']) };
}

/** Names with what the text has to escape. */
const name = fc.oneof(fc.constantFrom('a', 'quoted "b"', 'back\\slash', 'two\nlines', ''), fc.string());

it('counters and histograms are written as those of prom-client with the same values', async () => {
  const observations = fc.array(fc.record({ model: name, value: fc.double({ min: 0, max: 20, noNaN: true }) }));
  await fc.assert(
    fc.asyncProperty(observations, fc.constantFrom(...TYPES), fc.boolean(), async (all, type, isLabelled) => {
      const [theirs, ours] = [new Registry(), new MetricsRegistration(undefined, turns(), presence)];
      const [labelNames, registers] = [isLabelled ? ['model'] : [], [theirs]];
      const histogram = new Histogram({
        ...{ name: 'infermux_seconds', help: 'Seconds\\.\n', labelNames, registers, buckets: BOUNDS },
      });
      const counter = new Counter({ name: 'infermux_requests_total', help: 'Requests.', labelNames, registers });
      const seconds = ours.histogram('seconds', 'Seconds\\.\n', labelNames, BOUNDS);
      const requests = ours.counter('requests_total', 'Requests.', labelNames);
      for (const { model, value } of all) {
        const labels = isLabelled ? { model } : {};
        histogram.observe(labels, value);
        counter.inc(labels);
        seconds.at(...Object.values(labels)).observe(value);
        requests.at(...Object.values(labels)).sum += 1;
      }
      for (const registry of [theirs, ours.registry]) registry.setContentType(type as never);
      expect(await ours.registry.metrics()).toBe(await theirs.metrics());
      const parsed = async (registry: Registry) => JSON.parse(JSON.stringify(await registry.getMetricsAsJSON()));
      const own = await parsed(ours.registry);
      const known = (await parsed(theirs)).map((metric: { values: object[] }) => ({
        ...metric,
        values: metric.values.map((value) => ({ ...value, exemplar: undefined })),
      }));
      expect(own).toEqual(known);
    }),
  );
});

it('a reset begins to count from nothing', async () => {
  const { registry, requests } = startCounter();
  requests.at('a').sum += 3;
  registry.resetMetrics();
  requests.at('a').sum += 1;
  expect(await registry.getSingleMetricAsString('infermux_requests_total')).toContain('{model="a"} 1');
});

it('a reading goes on from one to the next', async () => {
  const { registry, requests } = startCounter();
  requests.at('a').sum += 2;
  expect(await registry.metrics()).toContain('infermux_requests_total{model="a"} 2');
  requests.at('a').sum += 3;
  expect((await registry.getSingleMetric('infermux_requests_total')?.get()) as unknown).toMatchObject({
    values: [{ labels: { model: 'a' }, value: 5 }],
  });
});

it('metrics of other makers in the same registry are written as ever', async () => {
  const { registry } = new MetricsRegistration(undefined, turns(), presence);
  const counter = new Counter({ name: 'visits_total', help: 'Visits.', labelNames: ['page'], registers: [] });
  registry.registerMetric(counter as unknown as Metric);
  for (let page = 0; page < 1_200; page += 1) counter.inc({ page: `"${page}"` });
  const plain = new Registry();
  plain.registerMetric(counter as unknown as Metric);
  expect(await registry.metrics()).toBe(await plain.metrics());
});
