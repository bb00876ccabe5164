from ftpcluster.net.watching import Readiness as Readiness
from ftpcluster.net.watching import Watched as Watched
from ftpcluster.net.watching import Watching as Watching
