export { type HostQueriesAndKeys, regionAffinity, regionMass } from './affinity.js'
export { type RegionRoutes, regionRoutes } from './routes.js'
