// `prisma generate` needs nothing but the schema; migrations are applied by `src/store/migrate.ts`.
import { defineConfig } from 'prisma/config';

export default defineConfig({ schema: 'prisma/schema.prisma' });
