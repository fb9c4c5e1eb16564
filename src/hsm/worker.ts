/** Entry file of an HSM worker thread; the main thread loads it to have it compiled, and runs nothing. */
import { parentPort, workerData } from 'node:worker_threads';
import type { WorkerData } from './protocol.ts';
import { Serving } from './serving.ts';

if (parentPort !== null) (await Serving.open(parentPort, workerData as WorkerData)).run();
