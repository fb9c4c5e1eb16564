/** Copies so many entries to an HTTP receiver, from the position that the database has. */
import { HttpSink } from '../../src/audit/sinks/http-sink.ts';
import { SinkRunner } from '../../src/audit/sinks/runner.ts';
import { openStore } from '../../src/store/store.ts';
import { memoryEntries, sample } from '../audit/sinks/sample-records.ts';

const [, , databaseUrl = '', url = '', count = '0'] = process.argv;
const size = Number(count);
const store = openStore({ url: databaseUrl });
const sink = new HttpSink({ url });
const runner = new SinkRunner({
  ...{ log: memoryEntries(size), sink, position: store.sinks.position('killed') },
  ...{ from: 'start', most: 4 },
  record: ({ index }) => sample(index),
  onPassed: () => Promise.resolve(),
});
while (await runner.step(size));
process.exit(0);
