import { expect, it } from 'vitest';
import { ControlLoop } from '../../../dist/deployments/control/control-loop.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';

it('takes steps until there is none, also those that a step brought about, and looks again when one is due', () => {
  const clock = new FakeClock();
  const steps = ['a', 'b'];
  const story: string[] = [];
  let dueInMs: number | undefined = 5;
  const loop: ControlLoop<string> = new ControlLoop(
    {
      next: () => steps.shift(),
      perform: (step) => {
        story.push(step);
        // As an event in the middle of a step does.
        if (step === 'b') {
          steps.push('c');
          loop.look();
        }
      },
      rest: () => {
        story.push('rest');
        return dueInMs;
      },
    },
    clock,
  );
  loop.look();
  expect(story).toEqual(['a', 'b', 'c', 'rest']);
  steps.push('d');
  dueInMs = undefined;
  clock.advance(5);
  expect(story.slice(4)).toEqual(['d', 'rest']);
  expect(clock.timers).toBe(0);
  dueInMs = 5;
  loop.look();
  loop.stop();
  expect(clock.timers).toBe(0);
  steps.push('e');
  loop.look();
  expect(story).not.toContain('e');
});
