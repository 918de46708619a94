import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Count, Distribution } from '../../../dist/observability/series/lines.js';
import { SeriesTable } from '../../../dist/observability/series/series-table.js';

const counts = (table: SeriesTable<Count>) => Array.from(table.counted(), ({ labels, line }) => [labels, line.sum]);

describe('a table of series', () => {
  it('moves what was counted for things that are gone to (other), label by label', () => {
    const table = new SeriesTable(
      ['replica', 'code'],
      () => new Count(),
      () => () => true,
    );
    table.at('r-0', 'A').sum += 1;
    table.at('r-1', 'A').sum += 2;
    table.at('r-2', 'A').sum += 4;
    table.at('r-2', 'B').sum += 8;
    table.sweep((label, { replica }) => label !== 'replica' || replica === 'r-1');
    expect(counts(table)).toEqual([
      [{ replica: 'r-1', code: 'A' }, 2],
      [{ replica: '(other)', code: 'A' }, 5],
      [{ replica: '(other)', code: 'B' }, 8],
    ]);
  });

  it('shows a series from its first count on, and one without labels from the start', () => {
    const labelled = new SeriesTable(
      ['code'],
      () => new Count(),
      () => () => true,
    );
    labelled.at('A');
    expect(counts(labelled)).toEqual([]);
    expect(
      counts(
        new SeriesTable(
          [],
          () => new Count(),
          () => () => true,
        ),
      ),
    ).toEqual([[{}, 0]]);
  });

  it('tells apart values that could be taken for one', () => {
    const table = new SeriesTable(
      ['endpoint', 'target'],
      () => new Count(),
      () => () => true,
    );
    table.at('a,b', 'c').sum += 1;
    table.at('a', 'b,c').sum += 2;
    table.at('a"', '","b').sum += 4;
    expect(counts(table).map(([, sum]) => sum)).toEqual([1, 2, 4]);
  });

  it('stays small although nobody reads it, while names come and go', () => {
    let there = '';
    const table = new SeriesTable(
      ['endpoint'],
      () => new Count(),
      () =>
        (_, { endpoint }) =>
          endpoint === there,
    );
    for (let index = 0; index < 100_000; index += 1) {
      there = `endpoint-${index}`;
      table.at(there).sum += 1;
    }
    expect(counts(table).length).toBeLessThan(300);
    table.sweep((_, { endpoint }) => endpoint === there);
    expect(counts(table)).toEqual([
      [{ endpoint: '(other)' }, 99_999],
      [{ endpoint: there }, 1],
    ]);
  });

  it('keeps the sum over all series, buckets included', () => {
    const observation = fc.record({ name: fc.constantFrom('a', 'b', 'c', '(other)'), value: fc.nat(10) });
    fc.assert(
      fc.property(fc.array(observation), fc.subarray(['a', 'b', 'c']), (observations, there) => {
        const table = new SeriesTable(
          ['name'],
          () => new Distribution([2, 5]),
          () => () => true,
        );
        const all = new Distribution([2, 5]);
        for (const { name, value } of observations) {
          table.at(name).observe(value);
          all.observe(value);
        }
        table.sweep((_, { name }) => there.includes(name as string));
        const sum = new Distribution([2, 5]);
        for (const { labels, line } of table.counted()) {
          line.addTo(sum);
          expect([...there, '(other)']).toContain(labels['name']);
        }
        expect([sum.sum, sum.counts]).toEqual([all.sum, all.counts]);
      }),
    );
  });
});
