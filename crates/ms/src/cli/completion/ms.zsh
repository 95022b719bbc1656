
# Names of services come from the app itself.
_ms_with_services() {
    local ret=1
    _ms "$@" && ret=0
    if [[ $PREFIX != -* && -n ${(M)words[2,CURRENT-1]:#(up|ps|top|logs|history|restart|stop|start|rollback|scale)} ]]; then
        local -a services
        services=(${(f)"$(ms __complete 2>/dev/null)"})
        if [[ -n ${(M)words[2,CURRENT-1]:#scale} ]]; then
            compadd -S = -a services && ret=0
        else
            compadd -a services && ret=0
        fi
    fi
    return ret
}
compdef _ms_with_services ms
