import fc from 'fast-check';

/** One thing that a caller, a replica or the clock of a `RouterWorld` does. */
export type Step =
  | { kind: 'submit'; model: number; shardKey: string | undefined; priority: number }
  | { kind: 'step'; replica: number }
  | { kind: 'crash'; replica: number }
  | { kind: 'advance'; milliseconds: number };

export const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      model: fc.nat(5),
      shardKey: fc.option(fc.constantFrom('a', 'b', 'c'), { nil: undefined }),
      priority: fc.constantFrom(0, 0, 0, 1),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('step' as const), replica: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const), replica: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('advance' as const), milliseconds: fc.integer({ min: 1, max: 40 }) }),
  },
);
