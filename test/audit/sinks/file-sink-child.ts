/** Copies so many entries to a file, in a process whose files may not grow beyond a limit. */
import { FileSink } from '../../../src/audit/sinks/file-sink.ts';
import { SinkRunner } from '../../../src/audit/sinks/runner.ts';
import { memoryEntries, sample } from './sample-records.ts';

const [, , path = '', count = '0'] = process.argv;
const size = Number(count);
const sink = new FileSink({ path, rotateBytes: 1_000_000, keep: 1 });
const runner = new SinkRunner({
  ...{ log: memoryEntries(size), sink, position: sink, from: 'start', most: 16 },
  record: ({ index }) => sample(index),
  onPassed: () => Promise.resolve(),
});
try {
  while (await runner.step(size));
  process.stdout.write('done');
} catch (error) {
  process.stdout.write(`failed ${String((error as NodeJS.ErrnoException).code)}`);
}
await sink.close();
