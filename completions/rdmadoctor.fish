complete --keep-order --exclusive --command rdmadoctor --arguments "(RDMADOCTOR_COMPLETE=fish rdmadoctor -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
