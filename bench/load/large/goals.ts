import type { Load } from '../../../dist/cli/bench/load.js';
import type { Goal } from '../../report.js';
import { callersLoad } from '../goals.js';
import { LARGE_CALLERS, type LargeMeasurements } from './measure.js';
import type { PictureId } from './pictures.js';
import type { Way } from './ways.js';

/** Returns the goals: ratios to a Piscina pool of the same round, and how late the event loop was. */
export function largeGoals({ models, ways }: LargeMeasurements): Goal[] {
  const load = callersLoad(LARGE_CALLERS);
  const rounds = (id: PictureId, way: Way) => ways.rounds(id, way, load);
  const titleOf = (id: PictureId) => `${models.find((model) => model.id === id)?.title}, ${load}`;
  const against = (id: PictureId, way: Way, peer: Way, limit: number, aim: number): Goal => {
    const peers = rounds(id, peer);
    const values = rounds(id, way).map(({ throughput }, round) => throughput / (peers[round] as Load).throughput);
    return { what: `${titleOf(id)}: ${way}, relative to ${peer}`, values, ...{ unit: '×', limit, aim } };
  };
  const delay = (id: PictureId, way: Way, limit: number, aim: number): Goal => ({
    what: `${titleOf(id)}: ${way}, event-loop delay p99`,
    values: rounds(id, way).map(({ loopDelayP99 }) => loopDelayP99),
    ...{ unit: 'ms', limit, aim, atMost: true },
  });
  return [
    ...(['mean-640', 'mean-1280'] as const).flatMap((id) => [
      against(id, 'infermux (run)', 'Piscina (copied)', 1.3, 2),
      against(id, 'infermux (transfer)', 'Piscina (transferred)', 1, 1.5),
      against(id, 'infermux (allocate)', 'Piscina (transferred)', 1.5, 3),
    ]),
    against('relu-640', 'infermux (run)', 'Piscina (transferred)', 1.3, 2),
    against('relu-640', 'infermux (allocate)', 'Piscina (transferred)', 1.3, 2),
    delay('mean-640', 'infermux (run)', 5, 2),
    delay('mean-640', 'infermux (transfer)', 5, 2),
    delay('mean-640', 'infermux (allocate)', 5, 2),
    delay('mean-1280', 'infermux (transfer)', 5, 2),
    delay('mean-1280', 'infermux (allocate)', 5, 2),
    delay('relu-640', 'infermux (run)', 5, 2),
    delay('relu-640', 'infermux (allocate)', 5, 2),
    delay('mean-1280', 'infermux (run)', 15, 8),
  ];
}
