/**
 * `npm run model -- BENCH.json [NAME=NUMBER …]`: the scale model from the figures of a benchmark, or of
 * README.md, which tells of one.
 */
import { readFileSync } from 'node:fs';

import { benchReport } from './report.ts';
import { figuresOf, publishedFigures, renderModel, scaleOf, WANTED } from './scale-model.ts';

const [file, ...words] = process.argv.slice(2);
if (file === undefined) {
  process.stderr.write(
    `usage: npm run model -- BENCH.json [NAME=NUMBER …]\n` +
      `BENCH.json: of npm run bench -- --json BENCH.json, or README.md\nNAME: ${Object.keys(WANTED).join(', ')}\n`,
  );
  process.exitCode = 2;
} else {
  try {
    const scale = scaleOf(words);
    const text = readFileSync(file, 'utf8');
    const isPage = file.endsWith('.md');
    const figures = isPage
      ? publishedFigures(text)
      : figuresOf(benchReport.parse(JSON.parse(text)));
    process.stdout.write(`${renderModel(figures, scale)}\n`);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
