export { type HostQueriesAndKeys, regionAffinity, regionMass } from './affinity.js'
export { keptByRegion, type MassCoverage, massCoverage } from './coverage.js'
export { type RegionRoutes, regionRoutes } from './routes.js'
