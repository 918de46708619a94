import { copyThroughFrame } from '../../protocol/frames/copy.js';
import type { MemoryRules } from '../loop/message-handler.js';

/** Nothing of a process's memory is the calling thread's, and answers are what frames carry. */
export function memoryOfProcess(release: MemoryRules['release']): MemoryRules {
  return { handsBack: false, copy: copyThroughFrame, release };
}
