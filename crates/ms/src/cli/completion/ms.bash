
# Names of services come from the app itself.
_ms_with_services() {
    _ms "$@"
    local word=${COMP_WORDS[COMP_CWORD]} command= at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
            up|ps|top|logs|history|restart|stop|start|scale|rollback) command=${COMP_WORDS[at]} ;;
        esac
    done
    if [[ -n $command && $word != -* ]]; then
        local names
        names=$(ms __complete 2>/dev/null)
        if [[ $command == scale ]]; then
            compopt -o nospace
            names=${names//$'\n'/= }
            names=${names:+$names=}
        fi
        COMPREPLY+=($(compgen -W "$names" -- "$word"))
    fi
}
complete -F _ms_with_services -o nosort -o bashdefault -o default ms
