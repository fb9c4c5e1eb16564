/** Started by the tests as a process of its own, to be killed: makes and starts the database. */
import { lockDataFolder } from '../../src/data-folder.ts';
import { startEmbedded } from '../../src/store/embedded.ts';

const folder = await lockDataFolder(process.argv[2] ?? '');
const database = await startEmbedded({ dataDir: folder.path });
process.stdout.write(`${JSON.stringify({ pid: database.pid(), port: database.port })}\n`);
setInterval(() => undefined, 1000);
