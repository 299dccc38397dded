
set edit:completion:arg-completer[rdmadoctor] = { |@words|
    var index = (count $words)
    set index = (- $index 1)

    put (env _CLAP_IFS="\n" _CLAP_COMPLETE_INDEX=(to-string $index) RDMADOCTOR_COMPLETE="elvish" rdmadoctor -- $@words) | to-lines
}

