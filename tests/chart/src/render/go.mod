// Debian keeps its libraries under /usr/share/gocode. A module may name their major versions there.
module render
