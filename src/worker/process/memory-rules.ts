import { copyThroughFrame } from '../../protocol/frames/copy.js';
import type { MemoryRules } from '../loop/message-handler.js';

/** Nothing of a process's memory is the calling thread's, and answers are what frames carry. */
export const OF_PROCESSES: MemoryRules = { handsBack: false, copy: copyThroughFrame };
