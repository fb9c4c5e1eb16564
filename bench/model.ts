/** `npm run model -- BENCH.json [NAME=NUMBER …]`: the scale model from the figures of a benchmark. */
import { readFileSync } from 'node:fs';

import { benchReport } from './report.ts';
import { modelOf, renderModel, scaleOf, WANTED } from './scale-model.ts';

const [file, ...words] = process.argv.slice(2);
if (file === undefined) {
  process.stderr.write(
    `usage: npm run model -- BENCH.json [NAME=NUMBER …]\n` +
      `BENCH.json: of npm run bench -- --json BENCH.json\nNAME: ${Object.keys(WANTED).join(', ')}\n`,
  );
  process.exitCode = 2;
} else {
  const scale = scaleOf(words);
  const report = benchReport.parse(JSON.parse(readFileSync(file, 'utf8')));
  process.stdout.write(`${renderModel(scale, modelOf(report, scale))}\n`);
}
