// A handler that answers whether it runs in a thread of a Piscina pool.
import { isWorkerThread } from 'piscina';

export const handle = () => isWorkerThread;
