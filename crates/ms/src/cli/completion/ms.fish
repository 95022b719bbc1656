
# Names of services come from the app itself.
complete -c ms -n "__fish_seen_subcommand_from up ps top logs history restart stop start rollback" -f -a "(ms __complete 2>/dev/null)"
complete -c ms -n "__fish_seen_subcommand_from scale" -f -a "(ms __complete 2>/dev/null | string replace -r '\$' '=')"
